"""What the spans of a decision and their attributes are called, where they are written and where they are queried."""

ROUTE = "route"  # the span's name goes on with the model's
OUTCOME = "outcome"

# OpenTelemetry's conventions for generative AI.
OPERATION = "gen_ai.operation.name"
MODEL = "gen_ai.request.model"
MAX_TOKENS = "gen_ai.request.max_tokens"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"

DECISION_ID = "kvplane.decision_id"  # joins a route span to its outcome

TENANT = "kvplane.tenant"
ROUTER = "kvplane.router"
POLICY = "kvplane.policy"
REASON = "kvplane.reason"
BLOCK_TOKENS = "kvplane.block_tokens"
AFFINITY = "kvplane.affinity"  # decimal digits: more than 53 bits
CANDIDATES = "kvplane.candidates"  # how many
CHOSEN_REPLICA = "kvplane.chosen_replica"
MATCHED_TOKENS = "kvplane.matched_tokens"  # the longest prefix that any candidate holds
PREDICTED_CACHED_TOKENS = "kvplane.predicted_cached_tokens"
PREDICTED_TTFT_MS = "kvplane.predicted_ttft_ms"
COST_BEST = "kvplane.cost_best"
COST_CHOSEN = "kvplane.cost_chosen"
PROPENSITY = "kvplane.propensity"
DIRECTORY_AGE_MS = "kvplane.directory_age_ms"
FEATURES = "kvplane.candidate_features"  # JSON, a list for each field of the candidates
SCORES = "kvplane.scores"  # JSON, replica -> cost
BASIS = "kvplane.basis"  # JSON, what else a replay needs

SERVED_BY = "kvplane.served_by"  # where it went in the end: elsewhere than chosen if that was full or gone
FINISH = "kvplane.finish"  # as the replica says, or, of a decision that it did not carry out, `DECLINED`
DECLINED = "declined"
ACTUAL_CACHED_TOKENS = "kvplane.actual_cached_tokens"
ACTUAL_TTFT_MS = "kvplane.actual_ttft_ms"
QUEUE_MS = "kvplane.queue_ms"
PREFILL_MS = "kvplane.prefill_ms"
TOTAL_MS = "kvplane.total_ms"
PREDICTION_ERROR = "kvplane.prediction_error"  # cached tokens, predicted less reported
