"""The loop's decisions, as pure functions: status, selection, convergence."""
