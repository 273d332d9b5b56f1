"""Re-ingestion: QueueLoader, QueueRunner, the tracking table's rules, and the workflows (second seed)."""
