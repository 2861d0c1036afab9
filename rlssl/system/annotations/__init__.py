"""What annotated fields say: their types, and the comments above them."""
