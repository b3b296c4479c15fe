"""The slider demo: a session that computes, and a page that shows it."""
