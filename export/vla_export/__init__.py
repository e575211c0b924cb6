"""The workstation side: from a training checkpoint to a policy bundle."""
