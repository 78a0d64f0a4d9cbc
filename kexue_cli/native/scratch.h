// Buffers of a thread that every call uses again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

template <class E>
E* scratch(int index, size_t count) {  // grows once, then is reused: no allocation in the steady state
  thread_local std::vector<char> buffers[8];
  std::vector<char>& buffer = buffers[index];
  if (buffer.size() < count * sizeof(E) + 64) buffer.resize(count * sizeof(E) + 64);
  return reinterpret_cast<E*>((reinterpret_cast<uintptr_t>(buffer.data()) + 63) / 64 * 64);
}

}  // namespace
