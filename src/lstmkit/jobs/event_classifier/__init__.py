"""A label for every event of a stream: fraud, failures, attacks, activity."""
