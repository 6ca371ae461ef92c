"""The signs of each disease: of input, weights, norms, activity and learning. `analysis.diagnose` looks for all of them."""
