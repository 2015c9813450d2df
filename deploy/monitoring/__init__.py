"""
Dashboard and alerts as code: what is built here is `dashboard.json` and `rules.yml`.

limits: thresholds, each with its unit and reason; rules: recording and alerting rules;
dashboard: rows and panels, drawn by panels.  `python -m deploy.monitoring` builds both files.
"""
