"""What operators see and do: the whole system at a glance, dead letters, verify's last report."""
