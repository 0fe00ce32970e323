"""What the method is worth: ablations over several seeds, and the results page."""
