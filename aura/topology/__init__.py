"""Shape of point clouds: landmarks, persistence diagrams, their bounds and plots.

Belongs here: filtrations, diagrams, distances between diagrams, statements about their error.
Does not: where the points come from.
"""
