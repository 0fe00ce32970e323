"""What a policy is worth: by its gold reward, by a judge, by over-optimisation."""
