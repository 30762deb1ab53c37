"""Analysis of runs: range tests, bands, forecasts, tables and found schedules."""
