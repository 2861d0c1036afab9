"""The contestants that rlssl is compared with: bare loops and other libraries."""
