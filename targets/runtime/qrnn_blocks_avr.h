/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QRNN_BLOCKS_H
#define QRNN_BLOCKS_H

#include "qrnn_dot_avr.h"

#endif
