"""The plain methods that every result stands beside; the field's own libraries do the work where there are any."""
