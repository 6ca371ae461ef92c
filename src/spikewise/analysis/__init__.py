"""Analysis of networks and finished runs: firing rates, gradients, diagnosis, energy. Nothing here trains."""
