"""What an export did to the policy, for people (index.html, pictures) and for machines (report.json)."""
