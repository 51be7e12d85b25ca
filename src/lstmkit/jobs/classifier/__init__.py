"""Classification of texts, time series, audio clips and video clips."""
