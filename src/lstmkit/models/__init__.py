"""Models: encoder, recurrent trunk and head put together. Each has ``forward``, ``loss`` and ``step``."""
