// A stack of layers that runs one step per call and keeps its state: packs weights once, allocates nothing in a step.
#pragma once

#include "forward.h"

namespace lstmkit::LSTMKIT_ISA {

template <class T, class S, class W = S>
class StackStepper : public Stepper {
public:
    StackStepper(const std::vector<Problem>& layers, bool residual) : residual_(residual) {
        for (const Problem& p : layers) stages_.push_back(std::make_unique<Stage>(p, arena_));
        // Threads can only split the units of a step, and only if all layers are large enough.
        team_ = stages_.front()->plan.team;
        for (const auto& stage : stages_) team_ = std::min(team_, stage->plan.team);
        barrier_ = std::make_unique<Barrier>(team_);
    }

    void step(const void* x, int64_t row, void* output) override {
        run_together(team_, [&](int id) {
            const Member member{id, team_, barrier_.get()};
            Steps from{const_cast<void*>(x), 0, row};
            for (std::size_t i = 0; i < stages_.size(); ++i) {
                Stage& stage = *stages_[i];
                const Steps to{i + 1 < stages_.size() ? stage.output : output, 0, stage.problem.outputs};
                stage.run(from, to, member);
                if (residual_ && i > 0 && id == 0)
                    stage.add(static_cast<const S*>(from.data), static_cast<S*>(to.data));
                member.wait();
                from = to;
            }
        });
        for (const auto& stage : stages_) stage->swap_buffers();
    }

    void state(int layer, void* hidden, void* cell) const override { stages_[layer]->state(hidden, cell); }

private:
    struct Stage {
        Stage(const Problem& p, Arena& arena)
            : problem(p),
              plan(make_plan<T>(problem, 1)),
              forward(problem, plan),
              weights(Forward<T, S, W>::pack(forward, problem.pass[0], arena)),
              scratch(forward.take_scratch(problem.pass[0], plan.shards[0], arena, problem.batch, true)),
              output(arena.take<S>(problem.batch * problem.outputs)) {
            forward.start(problem.pass[0], plan.shards[0], scratch);
            record = forward.scratch_record(problem.pass[0], scratch.record, plan.shards[0], {0, 1});
        }

        void run(const Steps& x, const Steps& to, const Member& member) {
            if (member.rank == 0) {
                problem.x = x;
                problem.pass[0].output = to;
            }
            member.wait();
            forward.run_chunk(problem.pass[0], weights, plan.shards[0], {0, 1}, scratch, record, false, true, member);
        }

        // The next step reads what this step wrote.
        void swap_buffers() {
            std::swap(scratch.state.hidden[0], scratch.state.hidden[1]);
            std::swap(scratch.state.gate_input[0], scratch.state.gate_input[1]);
        }

        void add(const S* x, S* to) const {
            for (int64_t i = 0; i < problem.batch * problem.outputs; ++i)
                to[i] = static_cast<S>(static_cast<T>(to[i]) + static_cast<T>(x[i]));
        }

        void state(void* hidden, void* cell) const {
            for (int64_t row = 0; row < problem.batch; ++row) {
                scatter_row<T>(static_cast<S*>(hidden) + row * problem.outputs, as_const(scratch.state.hidden[0]), row,
                               problem.outputs);
                if (cell)
                    scatter_row<T>(static_cast<S*>(cell) + row * problem.units, as_const(scratch.state.cell), row,
                                   problem.units);
            }
        }

        Problem problem;
        const Plan plan;
        const Forward<T, S, W> forward;
        const PackedWeights<T> weights;
        typename Forward<T, S, W>::Scratch scratch;
        Record<T> record;
        void* output;
    };

    const bool residual_;
    int team_ = 1;
    Arena arena_;
    std::vector<std::unique_ptr<Stage>> stages_;
    std::unique_ptr<Barrier> barrier_;
};

}  // namespace lstmkit::LSTMKIT_ISA
