"""The papers' claims about adapters, pruning and chunks, tested in closed loop on the reference policy."""
