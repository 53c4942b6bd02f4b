"""Public data sets as downloaded, a file for each layout, and phantoms in the same layouts."""
