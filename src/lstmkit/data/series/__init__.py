"""Time series: long tables, regular grids, covariates, windows, chronological splits, sensor series."""
