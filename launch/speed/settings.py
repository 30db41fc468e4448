"""What all sides train with."""

BETA, RATE, CLIP = 0.1, 1e-6, 1.0
# What has adapters, in a model that is trained with them.
DECODER = (
  '.*language_model.*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)'
)
