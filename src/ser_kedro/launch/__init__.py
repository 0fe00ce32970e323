"""How a job runs: in this process, or in processes of its own."""
