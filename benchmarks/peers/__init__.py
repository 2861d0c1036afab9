"""What rlssl is compared with: bare loops and other libraries."""
