"""What must survive a power cut: registrations, profiles and journals."""
