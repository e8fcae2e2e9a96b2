"""Real faults under load: a mesh that is hurt on purpose, clients that write down what they saw, and who checks it."""
