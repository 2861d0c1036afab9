"""What single sections of a spec need besides their keys."""
