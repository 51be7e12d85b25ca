"""What models are put together from: encoders, the recurrent trunk, heads. Each declares its ``output_size``."""
