"""What is read from runs: range tests, bands, schedules that were found."""
