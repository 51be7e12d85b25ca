"""Time series: long-format tables, regular grids, covariates, windows, chronological splits, sensor series."""
