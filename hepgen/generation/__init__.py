"""Fast event generation: learn a sample, draw new events, hold them against truth never seen."""
