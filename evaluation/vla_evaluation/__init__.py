"""Closed loop in simulation: does the policy do what it is told, how often, and how sure is that."""
