"""CT images in Hounsfield units, of which a scan is simulated."""
