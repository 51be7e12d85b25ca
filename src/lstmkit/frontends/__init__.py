"""Front ends: how one kind of example becomes what the recurrent layers read. One file a kind."""
