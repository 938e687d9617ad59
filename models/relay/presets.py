"""What was run: `tiny` tries the pipeline in seconds, `laptop` shows the effect in minutes."""

from models.relay.config import (
    ArithmeticData,
    EvaluationConfig,
    LabelsConfig,
    NetworkConfig,
    OptimizerConfig,
    RelayConfig,
    StudentConfig,
    TeacherConfig,
)


def tiny() -> RelayConfig:
    """Every stage in seconds; too short to show the effect, so that its gates are open."""
    network = NetworkConfig(layers=1, width=32, heads=2, feed_forward_width=64)
    rate = OptimizerConfig(learning_rate=3e-3, warmup_steps=5, decay_steps=20)
    further = StudentConfig(max_steps=30, batch_size=16, network=network, optimizer=rate)
    return RelayConfig(
        data=ArithmeticData(train_lengths=(1, 2), label_lengths=(3,), untouched_lengths=(4,), tests_per_length=16),
        teacher=TeacherConfig(
            max_steps=60,
            batch_size=16,
            network=network.but(rope_base=100.0),
            optimizer=rate,
            alibi_slopes=(1.0, 0.25),
            supervised_pads="all",
            left_pads=3,
            curriculum_loss=0.5,
        ),
        student=further.but(max_steps=80),
        labels=LabelsConfig(problems_per_length=64, shard_size=32),
        fine_tuning=further.but(new_share=0.75),
        control=further,
        evaluation=EvaluationConfig(least_gain=-1.0, least_teacher=0.0, least_student_before=0.0),
    )


def laptop() -> RelayConfig:
    """The effect in about five minutes on two cores: sums modulo 7, trained on 1-5 operators, labelled at 6-8."""
    network = NetworkConfig(layers=2, width=64, heads=4, feed_forward_width=256)
    further = StudentConfig(
        max_steps=1000,
        batch_size=64,
        network=network,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=30, decay_steps=970),
    )
    return RelayConfig(
        data=ArithmeticData(),
        teacher=TeacherConfig(
            max_steps=3000,
            batch_size=64,
            network=network.but(rope_base=100.0),
            optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=45, decay_steps=2955),
            alibi_slopes=(8.0, 4.0, 2.0, 1.0),
            supervised_pads="all",
            left_pads=3,
            curriculum_loss=0.03,
        ),
        student=StudentConfig(
            max_steps=2500,
            batch_size=64,
            network=network,
            optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=60, decay_steps=150, converged_loss=0.02),
        ),
        labels=LabelsConfig(problems_per_length=2000, shard_size=500),
        fine_tuning=further.but(new_share=0.75),
        control=further,
        evaluation=EvaluationConfig(),
    )
