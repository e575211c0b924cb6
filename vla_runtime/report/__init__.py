"""Reports for people: sections of sentences, tables and pictures on one page that needs nothing from elsewhere."""
