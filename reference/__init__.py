"""The reference policy: a small π0 for the PiPER that the demo, the tests and the results run on."""
