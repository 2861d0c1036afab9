"""DAgger: imitation of an expert that can be asked anywhere."""
