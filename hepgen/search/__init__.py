"""Search: bump hunts and limits in the mass spectra that cuts on the taggers' scores leave."""
