"""Tables: read CSV, JSON lines and Parquet; parse columns as timestamps, numbers or categories."""
