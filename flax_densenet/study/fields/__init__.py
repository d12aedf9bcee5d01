"""Studies that vary one field of the network."""
