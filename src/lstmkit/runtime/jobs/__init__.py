"""The jobs: one module each, with the name of the job and its class."""
