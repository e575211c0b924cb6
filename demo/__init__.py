"""The main job on embedded defaults: from a checkpoint to a moving, simulated arm."""
