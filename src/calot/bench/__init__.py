"""Speed, side by side with the naive way, exactness first."""
