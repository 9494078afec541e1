#!/bin/bash
# The runbook's own script, with the Compose file's place as the only change.
cd /opt/pynomaly || exit 1
echo "=== Daily Health Check $(date) ==="
docker compose ps
df -h
free -h
docker compose exec -T postgres pg_isready -U pynomaly -d pynomaly_prod
curl -sf http://localhost:8000/health || echo "API health check failed"
docker compose logs --since=24h | grep -c ERROR
