"""Prometheus and Grafana: the dashboards are what their description makes, and each alert can fire."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
MAKER = FOLDER.parents[1] / "packaging" / "dashboards.py"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]
]
# By alert: series, as promtool writes them, from which it fires within 20 minutes.
SERIES = {
    "WarrenPodsNotCaptured": {
        'warren_agent_pods_wanted{instance="n"}': "3x40",
        'warren_agent_pods_captured{instance="n"}': "2x40",
    },
    "WarrenTunnelNotConnected": {'warren_agent_zds_tunnels{instance="n"}': "0x40"},
    "WarrenSourceAway": {'warren_agent_source_age_seconds{instance="n"}': "0+60x40"},
    "WarrenPoliciesRefused": {'warren_agent_refused_policies{instance="n",kind="Sidecar"}': "1x40"},
    "WarrenTunnelBehind": {'warren_xds_connected{instance="n"}': "0x40"},
    "WarrenCertificateEnds": {'warren_certificate_expiry_seconds{instance="n",identity="a"}': "1800x40"},
    "WarrenCertificateRequestsFail": {
        'warren_certificate_requests_total{instance="n",result="refused"}': "0+5x40"
    },
    "WarrenMapNearlyFull": {
        'warren_map_entries{instance="n",map="direct"}': "900x40",
        'warren_map_max_entries{instance="n",map="direct"}': "1000x40",
    },
    "WarrenConnectionsRefused": {
        'warren_connections_refused_total{reporter="source",reason="policy"}': "0+10x40",
        'istio_tcp_connections_opened_total{reporter="source"}': "0+100x40",
    },
    "WarrenRequestErrors": {
        'istio_requests_total{reporter="destination",destination_service="s",response_code="503"}': "0+10x40",
        'istio_requests_total{reporter="destination",destination_service="s",response_code="200"}': "0+90x40",
    },
    "WarrenConnectSlow": {
        f'warren_connect_seconds_bucket{{instance="n",reporter="source",le="{le}"}}': f"0+{slope}x40"
        for le, slope in (("1.0", 80), ("2.5", 100), ("+Inf", 100))
    },
    "WarrenRequestsQueue": {
        f'warren_queue_seconds_bucket{{instance="n",le="{le}"}}': f"0+{slope}x40"
        for le, slope in (("1.0", 80), ("2.5", 100), ("+Inf", 100))
    },
    "WarrenPanics": {'warren_panics_total{instance="n"}': "0+1x40"},
    "WarrenLogLinesDropped": {'warren_log_lines_dropped_total{instance="n"}': "0+1x40"},
}


def test_the_dashboards_are_what_their_description_makes() -> None:
    made = subprocess.run([sys.executable, MAKER, "--check"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "warren.rules.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((FOLDER / "rules.yaml").read_text())["spec"]))
    return path


def promtool(*arguments: object) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_rules_and_configuration(rules: Path) -> None:
    promtool("check", "rules", rules)
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    for job in config["scrape_configs"]:
        del job["kubernetes_sd_configs"]  # Debian's is built without Kubernetes
    path = rules.with_name("prometheus.yaml")
    path.write_text(yaml.safe_dump(config))
    promtool("check", "config", path)


def test_each_alert_fires_and_says_what_to_do(rules: Path) -> None:
    assert {*SERIES} == {rule["alert"] for rule in RULES}
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count by (alertname) (ALERTS{{alertname="{alert}", alertstate="firing"}})',
                    "eval_time": "20m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}],
                }
            ],
        }
        for alert, series in SERIES.items()
    ]
    path = rules.with_name("tests.yaml")
    path.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", path)
    assert all({"summary", "description"} <= rule["annotations"].keys() for rule in RULES)
