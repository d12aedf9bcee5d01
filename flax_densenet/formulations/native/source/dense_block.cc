// The functions that XLA calls: a dense block in training, its gradient, and in evaluation.
//
// Axes: G chunks, C channels before the block, D after it, P pixels of a chunk, L layers, K channels
// of a bottleneck. Parameters come layer by layer as they lie in the network: scale [c], bias [c] and
// kernel [size, size, c, k] of each stage, of which a layer has two with a bottleneck.

#include <cstdint>
#include <cstring>
#include <vector>

#include "block.h"
#include "xla/ffi/api/ffi.h"

namespace densenet {
namespace {

namespace ffi = xla::ffi;

// All arrays are of type T: the Python side sees to that.
template <typename T>
T* data(const ffi::AnyBuffer& buffer) {
  return static_cast<T*>(buffer.untyped_data());
}

template <typename T>
T* data(ffi::Result<ffi::AnyBuffer>& buffer) {
  return static_cast<T*>(buffer->untyped_data());
}

template <typename T>
Maps<T> maps(T* data, ffi::AnyBuffer::Dimensions shape) {
  const size_t rank = shape.size();
  return {data, shape[rank - 2], shape[rank - 1]};
}

template <typename T>
std::vector<StageParameters<T>> parameters(ffi::RemainingArgs& args, int arrays_per_stage) {
  std::vector<StageParameters<T>> stages;
  for (size_t i = 0; i < args.size(); i += arrays_per_stage) {
    const ffi::AnyBuffer kernel = *args.get<ffi::AnyBuffer>(i + 2);
    const auto shape = kernel.dimensions();
    stages.push_back({data<T>(*args.get<ffi::AnyBuffer>(i)),
                      data<T>(*args.get<ffi::AnyBuffer>(i + 1)), data<T>(kernel),
                      static_cast<int>(shape[0]), static_cast<int>(shape[2]),
                      static_cast<int>(shape[3])});
  }
  return stages;
}

Planes planes(int64_t pixels, int64_t height, int64_t width) {
  return {pixels / (height * width), height, width, 0};
}

template <typename T>
void copy_input(Maps<T> from, Maps<T> to, int64_t chunk) {
  std::memcpy(to.at(chunk, 0), from.at(chunk, 0), from.channels * from.pixels * sizeof(T));
}

template <typename T>
ffi::Error train(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon, bool keeps,
                 ffi::AnyBuffer x, ffi::RemainingArgs args, ffi::Result<ffi::AnyBuffer> features,
                 ffi::Result<ffi::AnyBuffer> mean, ffi::Result<ffi::AnyBuffer> var,
                 ffi::Result<ffi::AnyBuffer> inner_mean, ffi::Result<ffi::AnyBuffer> inner_var,
                 ffi::Result<ffi::AnyBuffer> bottlenecks) {
  const auto shape = x.dimensions();
  const int64_t chunks = shape[0];
  Block<T> block(pool, chunks, planes(shape[2], height, width), epsilon);
  const Maps<T> input = maps(data<T>(x), shape);
  const Maps<T> all = maps(data<T>(features), features->dimensions());
  const Statistics<T> statistics{data<T>(mean), data<T>(var)};
  Statistics<T> inner{data<T>(inner_mean), data<T>(inner_var)};
  Maps<T> bottleneck = maps(data<T>(bottlenecks), bottlenecks->dimensions());

  block.for_parts([&](int, int64_t first, int64_t end) {
    for (int64_t g = first; g < end; ++g) copy_input(input, all, g);
  });
  block.observe(all, input.channels, statistics);
  const auto stages = parameters<T>(args, 3);
  const bool has_bottlenecks = bottleneck.channels > 0;
  int64_t channels = input.channels;
  for (size_t i = 0; i < stages.size(); ++i) {
    Maps<T> source = all;
    Statistics<T> read = statistics;
    if (has_bottlenecks) {
      block.forward(block.stage(stages[i], statistics), all, bottleneck, 0, inner);
      source = bottleneck;
      read = inner;
      inner = inner.after(bottleneck.channels);
      if (keeps) bottleneck.data += chunks * bottleneck.channels * bottleneck.pixels;
      ++i;
    }
    block.forward(block.stage(stages[i], read), source, all, channels, statistics.after(channels));
    channels += stages[i].outputs;
  }
  return ffi::Error::Success();
}

// The gradient for the features becomes, in place, that of the block's input.
template <typename T>
ffi::Error gradient(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon, bool keeps,
                    ffi::AnyBuffer features, ffi::AnyBuffer mean, ffi::AnyBuffer var,
                    ffi::AnyBuffer inner_mean, ffi::AnyBuffer inner_var,
                    ffi::AnyBuffer bottlenecks, ffi::AnyBuffer, ffi::AnyBuffer of_mean_in,
                    ffi::AnyBuffer of_var_in, ffi::AnyBuffer of_inner_mean_in,
                    ffi::AnyBuffer of_inner_var_in, ffi::RemainingArgs args,
                    ffi::Result<ffi::AnyBuffer> of_x, ffi::Result<ffi::AnyBuffer> of_features,
                    ffi::Result<ffi::AnyBuffer> again, ffi::Result<ffi::AnyBuffer> of_bottleneck,
                    ffi::RemainingRets rets) {
  const auto shape = features.dimensions();
  const int64_t chunks = shape[0];
  Block<T> block(pool, chunks, planes(shape[2], height, width), epsilon);
  const Maps<T> all = maps(data<T>(features), shape);
  const Maps<T> of_all = maps(data<T>(of_features), shape);
  const Maps<T> of_inner_maps = maps(data<T>(of_bottleneck), of_bottleneck->dimensions());
  const int64_t width_of_inner = of_inner_maps.channels;
  const Statistics<T> statistics{data<T>(mean), data<T>(var)};
  const Statistics<T> inner{data<T>(inner_mean), data<T>(inner_var)};

  const auto copy = [](const ffi::AnyBuffer& from) {
    return std::vector<T>(data<T>(from), data<T>(from) + from.element_count());
  };
  std::vector<T> of_mean = copy(of_mean_in), of_var = copy(of_var_in);
  std::vector<T> of_inner_mean = copy(of_inner_mean_in), of_inner_var = copy(of_inner_var_in);
  const Statistics<T> of_statistics{of_mean.data(), of_var.data()};
  const Statistics<T> of_inner{of_inner_mean.data(), of_inner_var.data()};

  const auto stages = parameters<T>(args, 3);
  std::vector<StageGradients<T>> gradients;
  for (size_t i = 0; i < rets.size(); i += 3) {
    auto array = [&](size_t number) {
      return static_cast<T*>((*rets.get<ffi::AnyBuffer>(number))->untyped_data());
    };
    gradients.push_back({array(i), array(i + 1), array(i + 2)});
  }

  const bool has_bottlenecks = width_of_inner > 0;
  const int stages_per_layer = has_bottlenecks ? 2 : 1;
  int64_t channels = all.channels;
  for (int layer = stages.size() / stages_per_layer - 1; layer >= 0; --layer) {
    const int last = (layer + 1) * stages_per_layer - 1;
    channels -= stages[last].outputs;
    const Statistics<T> new_statistics = statistics.after(channels);
    const Statistics<T> of_new = of_statistics.after(channels);
    const ThroughStatistics<T> through(stages[last].outputs, new_statistics.mean, of_new.mean,
                                       of_new.var, block.count());
    if (!has_bottlenecks) {
      block.backward(block.stage(stages[last], statistics), all, all, of_all, channels, of_all,
                     true, through, of_statistics, gradients[last]);
      continue;
    }
    const Statistics<T> read = inner.after(layer * width_of_inner);
    const Statistics<T> of_read = of_inner.after(layer * width_of_inner);
    Maps<T> bottleneck = of_inner_maps;
    bottleneck.data = data<T>(bottlenecks) + layer * chunks * width_of_inner * all.pixels;
    if (!keeps) {
      bottleneck.data = data<T>(again);
      std::vector<T> known(2 * width_of_inner);
      block.forward(block.stage(stages[last - 1], statistics), all, bottleneck, 0,
                    {known.data(), known.data() + width_of_inner});
    }
    block.backward(block.stage(stages[last], read), bottleneck, all, of_all, channels,
                   of_inner_maps, false, through, of_read, gradients[last]);
    const ThroughStatistics<T> inner_through(width_of_inner, read.mean, of_read.mean, of_read.var,
                                             block.count());
    block.backward(block.stage(stages[last - 1], statistics), all, bottleneck, of_inner_maps, 0,
                   of_all, true, inner_through, of_statistics, gradients[last - 1]);
  }

  const Maps<T> of_input = maps(data<T>(of_x), of_x->dimensions());
  const ThroughStatistics<T> through(channels, statistics.mean, of_statistics.mean,
                                     of_statistics.var, block.count());
  block.for_parts([&](int, int64_t first, int64_t end) {
    for (int64_t g = first; g < end; ++g) {
      for (int64_t c = 0; c < channels; ++c) {
        const T *value = all.at(g, c), *dx = of_all.at(g, c);
        T* to = of_input.at(g, c);
        const T center = through.mean[c], constant = through.constant[c], slope = through.slope[c];
        for (int64_t p = 0; p < all.pixels; ++p) {
          to[p] = dx[p] + (constant + slope * (value[p] - center));
        }
      }
    }
  });
  return ffi::Error::Success();
}

// Parameters have five arrays for each stage here: running mean and variance, too. Nothing depends
// on other chunks: each goes through all layers by itself.
template <typename T>
ffi::Error evaluate(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon,
                    int64_t stages_per_layer, ffi::AnyBuffer x, ffi::RemainingArgs args,
                    ffi::Result<ffi::AnyBuffer> features) {
  const auto shape = x.dimensions();
  Block<T> block(pool, shape[0], planes(shape[2], height, width), epsilon);
  const Maps<T> input = maps(data<T>(x), shape);
  const Maps<T> all = maps(data<T>(features), features->dimensions());
  const auto stage_parameters = parameters<T>(args, 5);
  std::vector<Stage<T>> stages;
  for (size_t i = 0; i < stage_parameters.size(); ++i) {
    const Statistics<T> running{data<T>(*args.get<ffi::AnyBuffer>(5 * i + 3)),
                                data<T>(*args.get<ffi::AnyBuffer>(5 * i + 4))};
    stages.push_back(block.stage(stage_parameters[i], running));
    stages.back().pack_forward();
  }
  block.for_parts([&](int, int64_t first, int64_t end) {
    std::vector<Forward<T>> workers(stages.begin(), stages.end());
    std::vector<T> bottleneck(stages_per_layer == 2 ? stages[0].outputs * all.pixels : 0);
    for (int64_t g = first; g < end; ++g) {
      copy_input(input, all, g);
      int64_t channels = input.channels;
      for (size_t i = 0; i < stages.size(); i += stages_per_layer) {
        const T* source = all.at(g, 0);
        if (stages_per_layer == 2) {
          workers[i].run(source, bottleneck.data());
          source = bottleneck.data();
        }
        const size_t last = i + stages_per_layer - 1;
        workers[last].run(source, all.at(g, channels));
        channels += stages[last].outputs;
      }
    }
  });
  return ffi::Error::Success();
}

#define DENSENET_DEFINE(name, T)                                                                  \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(train_##name, train<T>,                                           \
                                ffi::Ffi::Bind()                                                  \
                                    .Ctx<ffi::ThreadPool>()                                       \
                                    .Attr<int64_t>("height")                                      \
                                    .Attr<int64_t>("width")                                       \
                                    .Attr<double>("epsilon")                                      \
                                    .Attr<bool>("keeps")                                          \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .RemainingArgs()                                              \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .Ret<ffi::AnyBuffer>());                                      \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(gradient_##name, gradient<T>,                                     \
                                ffi::Ffi::Bind()                                                  \
                                    .Ctx<ffi::ThreadPool>()                                       \
                                    .Attr<int64_t>("height")                                      \
                                    .Attr<int64_t>("width")                                       \
                                    .Attr<double>("epsilon")                                      \
                                    .Attr<bool>("keeps")                                          \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .RemainingArgs()                                              \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .Ret<ffi::AnyBuffer>()                                        \
                                    .RemainingRets());                                            \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(evaluate_##name, evaluate<T>,                                     \
                                ffi::Ffi::Bind()                                                  \
                                    .Ctx<ffi::ThreadPool>()                                       \
                                    .Attr<int64_t>("height")                                      \
                                    .Attr<int64_t>("width")                                       \
                                    .Attr<double>("epsilon")                                      \
                                    .Attr<int64_t>("stages_per_layer")                            \
                                    .Arg<ffi::AnyBuffer>()                                        \
                                    .RemainingArgs()                                              \
                                    .Ret<ffi::AnyBuffer>())

}  // namespace

DENSENET_DEFINE(float32, float);
DENSENET_DEFINE(float64, double);

}  // namespace densenet
