"""The site: people, submissions, published entries and the pages that show them. It imports no torch."""
