"""What a proof of a product says: its public signals, and tiles for tasks that are larger than a circuit."""
