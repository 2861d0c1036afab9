"""Commands that show a run: while it trains, and its policies in episodes."""
