"""Physics processes and the parametrised detector: events simulated on the spot."""
